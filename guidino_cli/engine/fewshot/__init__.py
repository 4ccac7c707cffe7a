"""From a few labelled images to the weights of a model, in closed form."""

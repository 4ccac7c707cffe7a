"""The loss terms: pixel terms take (logits, mask), guide terms (guide, target)."""

PIXEL_LOSSES = {
    "dice": "guidino_cli.losses.dice:dice_loss",
    "cross_entropy": "guidino_cli.losses.cross_entropy:cross_entropy",
    "boundary": "guidino_cli.losses.boundary:boundary_hinge",
    "structure": "guidino_cli.losses.structure:structure_loss",
}
GUIDE_LOSSES = {
    "guide": "guidino_cli.losses.guide:guide_cross_entropy",
    "guide_mse": "guidino_cli.losses.guide:guide_mean_squared_error",
}

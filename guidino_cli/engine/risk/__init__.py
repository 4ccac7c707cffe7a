"""Expected Dice and bounded errors of masks, fitted on validation cases."""

"""How good a mask will be and how wrong it may be, fitted to validation cases: expected Dice and risk control."""

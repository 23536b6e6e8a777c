"""Training: arrays and starting weights in, trained weights and a row of metrics an epoch out."""

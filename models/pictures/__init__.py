"""From any picture to the 28 x 28 pixels that an MNIST network reads."""

"""What a network is: its module, its input, its checkpoint. Nothing of training or serving."""

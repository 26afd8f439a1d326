"""From data to a checkpoint: training, evaluation, import and plots, in processes of their own."""

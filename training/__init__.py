"""Trains models: from data to a checkpoint folder."""

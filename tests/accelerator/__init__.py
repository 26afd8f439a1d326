"""Tests on a CUDA device."""

"""What a notebook shows: its start, plots, sliders and pictures."""

"""How weights, measurements, figures and pages are made."""

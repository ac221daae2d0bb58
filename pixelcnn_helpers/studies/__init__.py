"""What single notebooks ask: one file for each study."""

"""The pairs stage: training pairs and which of them are held out."""

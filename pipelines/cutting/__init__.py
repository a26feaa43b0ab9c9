"""The parts of cutting a source into clips: windows of shots, what is measured on the way, and the rows."""

"""3DiMo as nn.Modules, the human body model, and a diffusers-style inference pipeline."""

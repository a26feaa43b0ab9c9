"""What is done to clips: sources, video, people, poses, cameras, captions, latents, pairs, and the Ray runner."""

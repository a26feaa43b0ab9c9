"""Pictures of skeletons and bodies, drawn in closed form on whatever device the joints are on."""

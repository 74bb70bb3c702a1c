"""Video: objects followed from frame to frame, and how well."""

"""What to label or teach next, and how carefully to ask: data pools, the feature cache, the heat map, the regimen."""

"""What to label or teach next, and at which vigilance: data pools, the feature cache, the heat map, the regimen."""

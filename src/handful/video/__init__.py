"""Objects followed through films: how well."""

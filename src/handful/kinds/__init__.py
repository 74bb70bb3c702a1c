"""What a model folder can be: one file a kind. The only place that knows which kind a folder is."""

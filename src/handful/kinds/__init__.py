"""What a model folder can be: one file a kind. The only place that knows which kind a folder is."""

MADE_BY = "`handful teach DATA --out DIR` and `handful train TASK DATA --out DIR` make one"  # of a model folder

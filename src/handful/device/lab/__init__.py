"""What was compiled is held against the reference: compare, measure, report."""

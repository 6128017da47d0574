"""What a person reads: figures, tables on a terminal, lists."""

"""Fine-tune language models so that every run can be compared, trusted and run again."""

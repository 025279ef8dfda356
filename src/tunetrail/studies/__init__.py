"""Studies in MLflow: the parent run, ranking, report and figures, and the winner of finals."""

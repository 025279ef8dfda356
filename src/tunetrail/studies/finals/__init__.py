"""The winner of a study: scored on test once, compared, registered, reported."""

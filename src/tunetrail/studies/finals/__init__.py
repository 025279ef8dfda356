"""The winner of a study: measured on test once, compared, registered, told."""

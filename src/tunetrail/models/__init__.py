"""Models: where pretrained weights come from, how they are loaded, which of them are trained."""

"""Ready-made configs, as package data: ``default.yaml`` says every default, the others change what they are for."""

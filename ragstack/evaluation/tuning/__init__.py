"""Choosing chunk size, weights and depth on a user's own questions.

``space`` says what is tried, ``recording`` asks each question once an index, ``trials`` scores settings on what was
recorded, ``selection`` chooses by cross-validation, ``search`` runs it all, ``yaml_file`` writes the config.
"""

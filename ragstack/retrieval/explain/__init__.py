"""Why a passage was or was not found: `query --explain`."""

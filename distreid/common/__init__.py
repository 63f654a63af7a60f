"""What every floor stands on: errors, files, storage, text, the terminal. Imports nothing of the rest."""

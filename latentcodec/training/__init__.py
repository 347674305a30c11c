"""Training of the native model: data, losses, a loop with exact resume, export, evaluation."""

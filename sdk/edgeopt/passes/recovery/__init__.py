"""Recovery after compression: statistics measured anew, least squares, distillation, students."""

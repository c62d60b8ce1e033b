"""Beyond the paper: early exits that pay. What is trained, what is measured, and what is reached."""

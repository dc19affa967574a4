"""What everything may use: errors, narration, the machine, requests to stop."""

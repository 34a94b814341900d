"""The dashboard: shows and steers every service through its gateway."""

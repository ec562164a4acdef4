"""History -> distributions; one method, one file."""

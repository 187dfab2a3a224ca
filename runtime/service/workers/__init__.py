"""The processes of the service: started, watched, replaced, ended."""

"""Streamlit app and command line: they translate, call the service, and render."""

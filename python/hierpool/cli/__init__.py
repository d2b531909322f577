"""The command line, ``python -m hierpool {info,train,cluster,demo}``."""

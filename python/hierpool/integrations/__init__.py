"""Drop-in names and signatures of other libraries."""

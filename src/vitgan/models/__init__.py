"""Generators and discriminators, each a frozen Config beside its module and its initialisation."""

#!/bin/sh
# Stands for tsx: the scripts of this project are JavaScript within their names.
exec node "$@"

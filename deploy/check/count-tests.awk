#!/usr/bin/awk -f
# Passes the output of `cargo test` through and adds the one line that it leaves to the reader: the sum.
{ print; fflush() }
/^test result:/ { passed += $4; failed += $6; ignored += $8 }
END { printf "tests: %d passed, %d failed, %d skipped\n", passed, failed, ignored }

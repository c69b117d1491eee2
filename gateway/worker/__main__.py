"""`python -m essaim.gateway.worker`: how the supervisor starts a worker."""

from .worker import main

main()

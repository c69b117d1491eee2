"""Configurations of external load balancers, out of the routes and entry points that this node's gateway serves."""

from essaim.api.context import Renderer
from essaim.configs.haproxy import render_haproxy
from essaim.configs.nginx import render_nginx
from essaim.configs.traefik import render_traefik, render_traefik_static

from .daemon import Daemon


def renderers(daemon: Daemon) -> dict[str, Renderer]:
    """By name. Other nodes are taken to have this one's entry points."""
    return {
        "haproxy": lambda table, bind: render_haproxy(table, daemon.entry_points(), bind=bind),
        "nginx": lambda table, bind: render_nginx(table, daemon.entry_points(), bind=bind),
        "traefik": lambda table, _: render_traefik(table, daemon.entry_points()),
        "traefik-static": lambda table, bind: render_traefik_static(table, daemon.entry_points(), bind=bind),
    }

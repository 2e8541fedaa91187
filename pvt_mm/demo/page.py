"""The demo page, built with gradio."""

import secrets
from collections.abc import Collection
from typing import Any
from urllib.parse import urlsplit

import gradio
from starlette.datastructures import Headers
from starlette.middleware import Middleware
from starlette.responses import PlainTextResponse

from ..errors import UsageError
from .models import Models

# Names of this machine that no other one can have.
LOCAL = ('127.0.0.1', 'localhost', '::1')
LARGEST = '20mb'  # of an upload
AGE = 600  # seconds after which uploads and pictures are deleted
USER = 'pvt_mm'


def path_of(upload: Any) -> str | None:
    """The file of an upload: gradio's own preprocess would decode it."""
    return upload and upload.path


class OwnRequests:
    """ASGI middleware that refuses requests of other pages.

    A page elsewhere could send them through the browser of a user: gradio
    would answer, and only keep the answer from it.

    Args:
        app: answers the others.
        hosts: names that the page may be asked for by; empty for any.
    """

    def __init__(self, app: Any, hosts: Collection[str]) -> None:
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer a request, with status 403 if it is of another page."""
        app = self.app
        if scope['type'] != 'lifespan':
            headers = Headers(scope=scope)
            host = headers.get('host', '')
            name = urlsplit(f'//{host}').hostname
            origin = urlsplit(headers.get('origin', f'//{host}')).netloc
            if origin != host or (self.hosts and name not in self.hosts):
                app = PlainTextResponse('not from this page', 403)
        await app(scope, receive, send)


def serve(models: Models, host: str, port: int) -> None:
    """Serve the page until it is stopped; other machines need a password.

    Args:
        models: to choose from.
        host: name or address to listen at.
        port: to listen at.

    Raises:
        UsageError: the port cannot be used.
    """
    local = host in LOCAL
    password = None if local else secrets.token_urlsafe(9)
    if password:
        print(f'other machines are asked for: {USER}, password {password}')
    hosts = {*LOCAL, host} if host not in ('0.0.0.0', '::') else ()
    try:
        make_page(models).launch(
            server_name=host,
            server_port=port,
            max_file_size=LARGEST,
            auth=(USER, password) if password else None,
            app_kwargs={'middleware': [Middleware(OwnRequests, hosts=hosts)]},
        )
    except OSError as error:
        raise UsageError(
            f'--port {port} cannot be used: give another one, or end what '
            'listens there'
        ) from error


def make_page(models: Models) -> gradio.Blocks:
    """An image, a model and a threshold -> a picture and a table."""

    def show(image, name, score):
        try:
            return models.show(image, name, score)
        except UsageError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    names = list(models.runs)
    with gradio.Blocks(
        title='pvt_mm', analytics_enabled=False, delete_cache=(AGE, AGE)
    ) as page:
        gradio.Markdown('# pvt_mm: pyramid vision transformers')
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(label='image', sources=['upload'])
                image.preprocess = path_of
                name = gradio.Dropdown(names, value=names[0], label='model')
                score = gradio.Slider(
                    0, 1, value=0.3, step=0.05, label='least score of objects'
                )
                button = gradio.Button('Show', variant='primary')
            with gradio.Column():
                # a label and buttons would hide what is written there
                picture = gradio.Image(
                    show_label=False, buttons=[], interactive=False
                )
                table = gradio.Dataframe(
                    headers=['class', 'score, or share of the image'],
                    label='found',
                    interactive=False,
                )
        button.click(show, [image, name, score], [picture, table])
    return page

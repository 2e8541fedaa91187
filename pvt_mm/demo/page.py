"""The demo page, built with gradio."""

import gradio

from ..errors import UsageError
from .models import Models


def make_page(models: Models) -> gradio.Blocks:
    """An image, a model and a threshold -> a picture and a table."""

    def show(image, name, score):
        try:
            return models.show(image, name, score)
        except UsageError as error:
            raise gradio.Error(str(error), print_exception=False) from error

    names = list(models.runs)
    with gradio.Blocks(title='pvt_mm', analytics_enabled=False) as page:
        gradio.Markdown('# pvt_mm: pyramid vision transformers')
        with gradio.Row():
            with gradio.Column():
                image = gradio.Image(label='image', type='numpy')
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

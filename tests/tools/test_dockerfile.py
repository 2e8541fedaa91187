"""The container file does what the README says."""

import re

from commands import ROOT

TEXT = (ROOT / 'docker/Dockerfile').read_text()
README = (ROOT / 'README.md').read_text()


def instructions():
    """(name, arguments) of each instruction, in order."""
    lines = [x for x in TEXT.splitlines() if x and not x.startswith('#')]
    whole = '\n'.join(lines).replace('\\\n', ' ').splitlines()
    return [tuple(re.sub(r'\s+', ' ', x).split(' ', 1)) for x in whole]


def steps():
    """The commands of all RUN instructions, in order."""
    return [
        step.strip()
        for name, rest in instructions()
        if name == 'RUN'
        for step in rest.split('&&')
    ]


def test_instructions_are_docker_s_own():
    names = [name for name, _ in instructions()]
    assert names[0] == 'FROM'
    assert set(names) <= {
        *('FROM', 'ARG', 'RUN', 'WORKDIR', 'COPY', 'ENV', 'CMD'),
    }


def test_packages_are_those_of_the_readme():
    (asked,) = re.findall(r'`apt-get install (make [^`]+)`', README)
    (install,) = [x for x in steps() if x.startswith('apt-get install')]
    packages = {x for x in install.split()[2:] if not x.startswith('-')}
    assert packages == {*asked.split(), 'ca-certificates'}


def test_set_up_is_the_command_of_the_readme():
    names = [name for name, _ in instructions()]
    (command,) = [rest for _, rest in instructions() if ' make setup' in rest]
    at = instructions().index(('RUN', command))
    assert names[at - 1] == 'COPY'  # of the checkout, which it sets up
    assert '`make setup ' in README and 'docker/Dockerfile' in README


def test_build_arguments_are_declared_and_known_to_set_up():
    declared = dict(
        rest.split('=', 1) for name, rest in instructions() if name == 'ARG'
    )
    assert declared == {'CUDA': '0', 'ARCHS': ''}
    used = dict(re.findall(r'(PVT_MM_\w+)=\$(\w+)', ' '.join(steps())))
    assert set(used.values()) == set(declared)
    tools = (ROOT / 'tools').glob('*.py')
    code = ''.join(file.read_text() for file in tools)
    assert all(f"'{name}'" in code for name in used)
    for line in re.findall(r'# +docker build (.*)', TEXT):
        assert set(re.findall(r'--build-arg (\w+)=', line)) <= set(declared)


def test_environment_is_on_the_path():
    found = dict(x for x in instructions() if x[0] in ('WORKDIR', 'ENV'))
    assert found['ENV'] == f'PATH={found["WORKDIR"]}/.venv/bin:$PATH'

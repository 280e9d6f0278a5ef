"""For `twistd -ny resumable.tac`; the configuration is the file that $RESUMABLE_CONFIG names."""

import os

from twisted.application.service import Application
from twisted.logger import ILogObserver

from resumable.logs import make_observer
from resumable.tap import make_service, read_settings, standard_output

settings = read_settings(os.environ.get("RESUMABLE_CONFIG"))
application = Application("resumable")
application.setComponent(ILogObserver, make_observer(settings.log.format, settings.log.level, standard_output(settings.log.format)))
make_service(settings).setServiceParent(application)

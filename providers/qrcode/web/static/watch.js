// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// Says so where the page's modules do not arrive: without them nothing else
// would, and "Opening the code" would stay. It comes apart from them, and late
// modules take over all the same.
(function () {
  var LIMIT = 10000; // ms
  var root = document.documentElement;

  function say() {
    if (root.hasAttribute('data-ready') || root.getAttribute('data-state') !== 'loading') return;
    var sections = document.querySelectorAll('[data-view]');
    for (var i = 0; i < sections.length; i++) {
      sections[i].hidden = sections[i].getAttribute('data-view') !== 'offline';
    }
    root.setAttribute('data-state', 'offline');
    document.querySelector('[data-view="offline"] [data-do="reload"]').addEventListener('click', function () {
      // Once the modules are there, the button is theirs.
      if (!root.hasAttribute('data-ready')) location.reload();
    });
  }

  setTimeout(say, LIMIT);
})();

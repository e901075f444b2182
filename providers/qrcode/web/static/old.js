// SPDX-FileCopyrightText: The pam-authn authors
// SPDX-License-Identifier: Apache-2.0

// For browsers that do not know modules; they know this much.
(function () {
  function old() {
    var sections = document.querySelectorAll('[data-view]');
    for (var i = 0; i < sections.length; i++) {
      if (sections[i].getAttribute('data-view') === 'unsupported') sections[i].removeAttribute('hidden');
      else sections[i].setAttribute('hidden', '');
    }
    document.documentElement.setAttribute('data-state', 'unsupported');
  }
  document.addEventListener('DOMContentLoaded', old);
})();

/* control NAME CODE: sends a control to a service. Wine's sc.exe has no `control`. */
#include <stdlib.h>
#include <windows.h>

int wmain(int count, wchar_t **arguments) {
  if (count != 3) return 100;
  SC_HANDLE manager = OpenSCManagerW(NULL, NULL, SC_MANAGER_CONNECT);
  SC_HANDLE service = OpenServiceW(manager, arguments[1], SERVICE_ALL_ACCESS);
  SERVICE_STATUS status;
  return ControlService(service, (DWORD)_wtoi(arguments[2]), &status) ? 0 : (int)GetLastError();
}
